"""DECIDE and COMPARE. services/, firewall/, routing/ and takeover/ know nothing of each other; each has its own map.

runner.py      when a controller is called, and with which keys; course.py what their syncs have in common
claims.py      who claims what, and whose claim is in force
reconcile.py   the difference to the kernel, written in order; mirror.py what is known of one table; outcome.py what a
               write came to
comparison.py  which tables are still to be compared, piece by piece; history.py past syncs, and clocks
endpoints.py, admission.py, addresses.py, addressbook.py   what Services mean, for more than one controller
forwarding.py  sysctls that services/ and routing/ both ask for
reading.py     our own rules, read as the kernel reads them, for `explain`; matches.py one of them
"""
