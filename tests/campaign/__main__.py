"""`python -m tests.campaign matrix|moments --examples 1000 --seed 7`, inside the lab kernel."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Iterator, Mapping

from tests.campaign import matrix, moments
from tests.campaign.agent import RealKernel
from tests.campaign.network import Place, standing
from tests.campaign.pace import Pace
from tests.campaign.probes import Probes
from tests.fakes.mutants import MUTANTS, mutant
from tests.labkit import namespaces

PROVEN = {
    "matrix": "every packet as the judge says",
    "moments": "nothing passed that is forbidden before and after, nothing failed that is allowed before and after",
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="campaign")
    parser.add_argument("what", choices=[*PROVEN])
    parser.add_argument("--examples", type=int, default=100, help="worlds (default 100)")
    parser.add_argument("--seed", type=int, help="of an earlier run, to have it once more (default: a new one)")
    parser.add_argument("--minutes", type=float, help="begin no world after that (default: play all)")
    parser.add_argument("--mutant", choices=[*MUTANTS], help="of the firewall, that the campaign has to find")
    options = parser.parse_args(arguments)
    number = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"campaign: {options.what}, {options.examples} examples, seed {number}", flush=True)
    namespaces.unshare(namespaces.CLONE_NEWNET)
    pace = Pace(options.minutes)
    defect = mutant(options.mutant) if options.mutant else contextlib.nullcontext()
    with standing() as places, campaign(options.what, places, number) as played, defect:
        try:
            played.run(options.examples, number, pace)
        finally:
            print(f"campaign: {played.tally} in {time.monotonic() - pace.began:.0f} s, seed {number}", flush=True)
    print(f"campaign: {PROVEN[options.what]}")
    return 0


@contextlib.contextmanager
def campaign(what: str, places: Mapping[str, Place], number: int) -> Iterator[matrix.Campaign | moments.Campaign]:
    with contextlib.ExitStack() as stack:
        kernel = stack.enter_context(contextlib.closing(RealKernel()))
        if what == "matrix":
            yield matrix.Campaign(places, stack.enter_context(contextlib.closing(Probes(places))), kernel)
        else:
            askers = [stack.enter_context(contextlib.closing(moments.Asker(places, each, number))) for each in (4, 6)]
            yield moments.Campaign(places, kernel, askers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
