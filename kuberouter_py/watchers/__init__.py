"""HEAR and KNOW: what the cluster says, from an API server or from a folder of manifests.

watchers.py    all that is heard, as one thing to start and to wait for; kinds.py which kinds, which of their objects
watcher.py     one kind from the API, a thread: following.py lists, watches and resumes, holding.py what it has heard;
               backoff.py when again; api.py requests, on transport.py; api_errors.py a "no"
manifests.py   all kinds from a folder: manifest_files.py, manifest_yaml.py, manifest_items.py what files hold
decode.py      JSON to model objects: decode_services.py, decode_slices.py, decode_workloads.py, decode_policies.py, on
               decode_fields.py; envelopes.py what the API wraps around
cache.py       the newest object of every key, and indexes; broadcaster.py rings whoever asked for the kind
finding.py     one Pod, when somebody asks; status.py what `status` shows of a kind
"""
