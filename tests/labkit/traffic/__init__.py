"""Servers and probes of a world: two processes for all its network namespaces, as a socket stays where it was opened.

exchange.py  requests and answers between the lab and the two
sockets.py   opening sockets in a named network namespace
server.py    the process that answers
prober.py    the process that asks; flows.py is one connection or datagram flow of it, streams.py many in the background
"""
