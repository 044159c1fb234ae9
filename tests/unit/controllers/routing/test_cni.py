"""What the CNI configuration shall say, from what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kuberouter_py.controllers.routing.cni import Completion, complete
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.podnet import CniSeen
from kuberouter_py.model.values import parse_cidr

FOUR, SIX, OTHER = parse_cidr("10.244.1.0/24"), parse_cidr("fd00:10:244:1::/64"), parse_cidr("10.244.7.0/24")
BOTH = (FOUR, SIX)

# What kube-router's manifests write.
KUBE_ROUTER = """{
   "cniVersion":"0.3.0",
   "name":"mynet",
   "plugins":[
      {
         "name":"kubernetes",
         "type":"bridge",
         "bridge":"kube-bridge",
         "isDefaultGateway":true,
         "hairpinMode":true,
         "ipam":{
            "type":"host-local"
         }
      },
      {
         "type":"portmap",
         "capabilities":{
            "snat":true,
            "portMappings":true
         }
      }
   ]
}
"""


def text_of(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"


def listed(**bridge: Any) -> str:
    return text_of(
        {"name": "mynet", "plugins": [{"type": "tuning"}, {"type": "bridge", **bridge}, {"type": "portmap"}]}
    )


def completed(there: str | None, cidrs: tuple[Cidr, ...] = BOTH, mtu: int = 1480, suffix: str = ".conflist") -> Any:
    """The document; and what is completed is complete."""
    done = complete(CniSeen(there), suffix, cidrs, mtu)
    assert done.text is not None and done.reason == ""
    assert complete(CniSeen(done.text, done.text, there or ""), suffix, cidrs, mtu).text == done.text
    return json.loads(done.text)


def ranges(text: str | None, number: int = 1) -> Any:
    assert text is not None
    return json.loads(text)["plugins"][number]["ipam"]["ranges"]


def test_none_there_ours_is_written() -> None:
    document = completed(None)
    bridge, portmap = document["plugins"]
    assert document["cniVersion"] and document["name"]
    assert (bridge["type"], bridge["bridge"], bridge["mtu"]) == ("bridge", "kube-bridge", 1480)
    assert bridge["isDefaultGateway"] and bridge["hairpinMode"] and bridge["forceAddress"]
    assert bridge["ipam"] == {
        "type": "host-local",
        "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]],
    }
    assert portmap["capabilities"]["portMappings"]


def test_a_single_plugin_where_the_suffix_says_so() -> None:
    document = completed(None, suffix=".conf")
    assert "plugins" not in document and document["type"] == "bridge" and document["name"]
    assert [one["subnet"] for each in document["ipam"]["ranges"] for one in each] == [
        "10.244.1.0/24",
        "fd00:10:244:1::/64",
    ]


def test_two_cidrs_of_one_family_are_one_set() -> None:
    """A pod gets an address out of each set."""
    document = completed(None, (FOUR, OTHER, SIX))
    assert document["plugins"][0]["ipam"]["ranges"] == [
        [{"subnet": "10.244.1.0/24"}, {"subnet": "10.244.7.0/24"}],
        [{"subnet": "fd00:10:244:1::/64"}],
    ]


def test_of_kube_router_only_what_is_missing_is_added() -> None:
    document = completed(KUBE_ROUTER)
    bridge = document["plugins"][0]
    assert bridge.pop("mtu") == 1480
    assert bridge["ipam"].pop("ranges") == [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]]
    assert document == json.loads(KUBE_ROUTER)


def test_what_lacks_nothing_is_left_to_the_letter() -> None:
    there = listed(mtu=1480, ipam={"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]]}).replace(" ", "\t")
    assert complete(CniSeen(there), ".conflist", (FOUR,), 1480).text == there


def test_unknown_keys_and_the_order_of_keys_are_kept() -> None:
    there = listed(
        zebra=[1, {"a": None}], bridge="br9", ipam={"routes": [{"dst": "0.0.0.0/0"}], "type": "host-local"}, vlan=7
    )
    document = completed(there)
    assert list(document["plugins"][1]) == ["type", "zebra", "bridge", "ipam", "vlan", "mtu"]
    assert document["plugins"][1]["zebra"] == [1, {"a": None}]
    assert list(document["plugins"][1]["ipam"]) == ["routes", "type", "ranges"]


def test_a_subnet_of_the_old_form_becomes_a_range_with_what_belongs_to_it() -> None:
    ipam = {"type": "host-local", "subnet": "10.244.1.0/24", "rangeStart": "10.244.1.9", "dataDir": "/d"}
    assert completed(listed(ipam=ipam))["plugins"][1]["ipam"] == {
        "type": "host-local",
        "dataDir": "/d",
        "ranges": [[{"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.9"}], [{"subnet": "fd00:10:244:1::/64"}]],
    }


def test_a_subnet_that_is_told_in_both_forms_is_one_range() -> None:
    ipam = {"type": "host-local", "subnet": "10.244.1.0/24", "ranges": [[{"subnet": "10.244.1.0/24"}]]}
    assert ranges(text_of(completed(listed(ipam=ipam), (FOUR,)))) == [[{"subnet": "10.244.1.0/24"}]]


def test_a_range_is_the_same_however_it_is_written() -> None:
    ipam = {"type": "host-local", "ranges": [[{"subnet": "fd00:10:0244:1:0::1/64"}], [{"subnet": "10.244.1.9/24"}]]}
    there = listed(mtu=1480, ipam=ipam)
    assert complete(CniSeen(there), ".conflist", BOTH, 1480).text == there


def test_ranges_of_others_are_kept() -> None:
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/16", "gateway": "10.9.0.9"}]]}
    assert ranges(text_of(completed(listed(ipam=ipam), (FOUR,)))) == [
        [{"subnet": "10.9.0.0/16", "gateway": "10.9.0.9"}],
        [{"subnet": "10.244.1.0/24"}],
    ]


class TestAnotherPodCidr:
    def test_takes_the_place_of_the_former_one_of_our_own_file(self) -> None:
        ours = complete(CniSeen(), ".conflist", BOTH, 0).text or ""
        done = complete(CniSeen(ours, ours), ".conflist", (OTHER, SIX), 0).text
        assert ranges(done, 0) == [[{"subnet": "10.244.7.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]]

    def test_only_what_came_by_us_goes(self) -> None:
        before = listed(ipam={"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/16"}]]})
        ours = complete(CniSeen(before), ".conflist", BOTH, 0).text or ""
        done = complete(CniSeen(ours, ours, before), ".conflist", (OTHER,), 0).text
        assert ranges(done) == [[{"subnet": "10.9.0.0/16"}], [{"subnet": "10.244.7.0/24"}]]
        assert done is not None and json.loads(done)["plugins"][1]["forceAddress"] is True

    def test_also_after_others_have_changed_the_file(self) -> None:
        ours = complete(CniSeen(), ".conflist", (FOUR,), 0).text or ""
        there = ours.replace('"hairpinMode": true', '"hairpinMode": false')
        done = complete(CniSeen(there, ours), ".conflist", (OTHER,), 0).text
        assert ranges(done, 0) == [[{"subnet": "10.244.7.0/24"}]]
        assert done is not None and json.loads(done)["plugins"][0]["hairpinMode"] is False

    def test_without_knowing_whose_it_is_it_stays(self) -> None:
        there = complete(CniSeen(), ".conflist", (FOUR,), 0).text
        assert ranges(complete(CniSeen(there), ".conflist", (OTHER,), 0).text, 0) == [
            [{"subnet": "10.244.1.0/24"}],
            [{"subnet": "10.244.7.0/24"}],
        ]

    def test_none_at_all_changes_nothing(self) -> None:
        assert complete(CniSeen(), ".conflist", (), 1480) == Completion(None, "this node has no pod CIDR")
        assert complete(CniSeen("{}", "{}"), ".conflist", (), 1480) == Completion("{}", "this node has no pod CIDR")


def test_without_an_mtu_of_ours_theirs_stands() -> None:
    assert completed(listed(mtu=1234, ipam={}), mtu=0)["plugins"][1]["mtu"] == 1234
    assert "mtu" not in completed(listed(ipam={}), mtu=0)["plugins"][1]
    assert completed(listed(mtu=1234, ipam={}))["plugins"][1]["mtu"] == 1480


def test_addresses_given_by_somebody_else_are_left_to_it() -> None:
    there = listed(ipam={"type": "whereabouts", "range": "10.0.0.0/8"})
    done = complete(CniSeen(there), ".conflist", BOTH, 1480)
    assert "whereabouts" in done.reason and done.text is not None
    bridge = json.loads(done.text)["plugins"][1]
    assert bridge == {"type": "bridge", "ipam": {"type": "whereabouts", "range": "10.0.0.0/8"}, "mtu": 1480}


def test_the_bridge_that_it_names() -> None:
    assert complete(CniSeen(), ".conflist", BOTH, 0).bridge == "kube-bridge"
    assert complete(CniSeen(listed(bridge="br9", ipam={})), ".conflist", BOTH, 0).bridge == "br9"
    assert complete(CniSeen(listed(ipam={})), ".conflist", BOTH, 0).bridge == "cni0", "the plugin's own default"


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"name": "\udcff"}', "UTF-8"),
        ("[]", "no JSON object"),
        ("{}", 'no list "plugins"'),
        ('{"plugins": {}}', 'no list "plugins"'),
        ('{"plugins": [7, {"type": "ptp"}]}', "no plugin of type bridge"),
        (listed(ipam=[]), '"ipam"'),
        (listed(ipam={"ranges": {}}), '"ranges"'),
        (listed(ipam={"ranges": [{"subnet": "10.0.0.0/8"}]}), '"ranges"'),
        (listed(ipam={"ranges": [[{"gateway": "10.0.0.1"}]]}), '"ranges"'),
        (listed(ipam={"subnet": 7}), '"subnet"'),
    ],
)
def test_what_is_not_understood_is_left_alone_and_named(there: str, why: str) -> None:
    done = complete(CniSeen(there), ".conflist", BOTH, 1480)
    assert done.text is None and why in done.reason


def test_what_we_remember_may_be_anything() -> None:
    there = complete(CniSeen(), ".conflist", BOTH, 0).text
    assert complete(CniSeen(there, "{", "[]"), ".conflist", BOTH, 0).text == there


def test_a_single_plugin_of_another_type() -> None:
    assert "no plugin of type bridge" in complete(CniSeen('{"type": "calico"}'), ".conf", BOTH, 1480).reason
