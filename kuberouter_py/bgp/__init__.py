"""BIRD 2, which speaks BGP for us. What shall be is one value, model/bgp.py's Speaker; controllers/routing/ decides it.

engine.py         the table "bgp": what runs, read and written; configuration.py its text, of sessions.py and filters.py
control.py        the control socket: replies.py how BIRD writes, answers.py what it means
process.py        BIRD of our own, in the background; keeping.py one beside us, in a container of its own
news.py           sessions that come and go, and BIRD itself: tail.py reads the log, states.py understands it;
                  watching.py one directory
files.py          all the files between us and BIRD
"""
