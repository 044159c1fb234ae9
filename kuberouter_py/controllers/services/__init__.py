"""Services through IPVS: what this node should hold for them. Everything but controller.py decides, and nothing else.

controller.py     called by runner.py: syncs, comparisons, questions; the lock
decisions.py      all keys that were rung: each one's share, in the order of these passes over it:
  desired.py        virtual servers, set members, addresses, routes, of one Service
                    (../endpoints.py which endpoints; outside.py, ../admission.py which addresses; scheduling.py,
                    sources.py, policies.py, healthchecks.py what their names say; marks.py which mark a port has)
  dsr.py            direct server return instead, where it was asked for
  weights.py        weights that Pods ask for
  drain.py          what leaves and still has connections; orphans.py what an earlier process left
  flows.py          which UDP flows lead to nobody from now on
addressbook.py    which Service names which address, on ../addressbook.py; scale.py what depends on how much there is
sight.py          this node, looked at again when news come: view.py is what was seen, concern.py whom a change concerns
nodestate.py      the node's own share: sysctls, sets, links, and the rules of chains.py and dsr_chains.py
notes.py, refusals.py, status.py what there is to report
explain/          what becomes of one connection, and why
"""
