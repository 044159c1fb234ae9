"""What others are told: nothing here decides or writes into the kernel. Documents first, their texts beside them.

http.py              the server, on listening.py; endpoints.py which path answers what on which port; socket.py asks on
                     the local one
health.py            lives, ready, worth a load balancer's traffic; healthchecks.py behind each healthCheckNodePort
metrics.py           on histogram.py, with service_metrics.py, bgp_metrics.py, denied.py (counted by NetworkPolicy),
                     programming.py (how long changes take)
events.py, log.py    Kubernetes Events; log lines
status.py, bgp.py    `status` and `bgp`, as documents and as text
explanation.py       `explain` as text, with policy_explanation.py; policy_matrix.py `explain --matrix`
"""
