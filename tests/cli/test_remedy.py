"""`gridplane remedy`: what is listed, and what a person says to the leader of a cluster."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from control_plane.cli.exits import Exit
from control_plane.cli.main import main, root
from control_plane.core import limits
from control_plane.core.breaker import Breaker
from control_plane.core.correlate import Incident
from control_plane.core.gpu import Rung
from control_plane.core.refused_login import BmcLogin, RefusedLogin
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.engine.records import Event
from control_plane.engine.store_work import DECIDED
from control_plane.kube import asking
from control_plane.kube.kinds import ORDER
from tests.cli.test_saying_afar import WORDS, Far, far
from tests.kube.remedies import ONE, in_repair

__all__ = ["far"]
TWO, RACK = "lab-g1-n2", "rack/lab-g1"
WHY = ("--reason", "new riser")
Out = pytest.CaptureFixture[str]


def ago(seconds: float) -> float:
    return time.time() - seconds


def tripped(**more: object) -> SiteKept:
    at_s = ago(3_600.0)
    base = {"domain": RACK, "begun": {ONE: at_s, TWO: at_s}, "tripped_at_s": at_s}
    breaker = Breaker(**{**base, **more})  # type: ignore[arg-type]
    incident = Incident(
        id="lab-g1-1", node="lab-g1", cause="lost", since_s=ago(900.0), assets=2, detail="2 of 2 are lost"
    )  # fmt: skip
    return SiteKept(breakers={RACK: breaker}, incidents=(incident,))


def test_a_ticket_is_closed_by_a_person_and_the_leader_says_so(far: Far, capsys: Out) -> None:
    far.cluster.remedies = (in_repair(ago(7_200.0)),)
    assert main(("remedy", "repaired", ONE, *WHY, "-o", "json", *far.options)) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["target"], told["by"], told["reason"]) == (ONE, "ann", "new riser")
    assert "comes back once its return gate is open" in told["done"]
    (kept,) = far.cluster.remedies
    assert kept.ticket is None
    assert kept.repaired is not None
    assert (kept.repaired.by, kept.repaired.reason) == ("ann", "new riser")
    assert main(("remedy", "repaired", ONE, *WHY, *far.options)) == Exit.OK
    assert "has no open repair ticket: ann closed" in capsys.readouterr().out


def test_an_approval_and_a_reset(far: Far, capsys: Out) -> None:
    far.cluster.together = tripped()
    words = ("remedy", "approve", ONE, "--up-to", "power_cycle", "--for", "2h", *WHY, *far.options)
    assert main(words) == Exit.OK
    assert "up to power_cycle until" in capsys.readouterr().out
    (kept,) = far.cluster.remedies
    (word,) = kept.approvals
    assert (word.by, word.up_to, word.until_s - word.at_s) == ("ann", Rung.POWER_CYCLE, 7_200.0)
    assert main(("remedy", "reset", RACK, *WHY, *far.options)) == Exit.OK
    assert f"{RACK}: it is closed" in capsys.readouterr().out
    assert far.cluster.together.breakers[RACK].reset_by == "ann"


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (("repaired", "lab-g1-n9", *WHY), "Did you mean lab-g1-n", Exit.USAGE),
        (("repaired", "lab-r1-s1", *WHY), "no GPU node 'lab-r1-s1'", Exit.USAGE),
        (("reset", "rack/lab-g2", *WHY), "Did you mean rack/lab-g1", Exit.USAGE),
        (("reset", "bmc/lab-g1-n9", *WHY), "no GPU node 'lab-g1-n9'", Exit.USAGE),
        (("approve", ONE, "--up-to", "reboot", "--for", "2d", *WHY), "a day at most", Exit.USAGE),
        (("approve", ONE, "--up-to", "reboot", *WHY), "said together", Exit.USAGE),
        (("approve", ONE, *WHY), "is a GPU node: say --up-to and --for", Exit.USAGE),
        (("emergency", "rack/lab-g2", "--kind", "leak", *WHY), "Did you mean rack/", Exit.USAGE),
        (("emergency", RACK, "--kind", "fire", *WHY), "Invalid value for '--kind'", Exit.USAGE),
        (("emergency", RACK, "--kind", "leak", "--for", "2h", *WHY), "an hour at most", Exit.USAGE),
        (("break-glass", ONE, *WHY), "Missing option '--for'", Exit.USAGE),
        (("break-glass", ONE, "--for", "5h", *WHY), "4h at most", Exit.USAGE),
        (("break-glass", ONE, "lab-r1-s1", "--for", "1h", *WHY), "no GPU node", Exit.USAGE),
    ],
)
def test_a_typing_error_says_nothing_to_anybody(
    far: Far, capsys: Out, words: tuple[str, ...], says: str, code: Exit
) -> None:
    assert main(("remedy", *words, *far.options)) == code
    assert says in capsys.readouterr().err
    assert far.cluster.names(ORDER) == set()


def test_where_nobody_leads_it_stands_and_is_not_claimed(
    far: Far, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    far.leads = False
    far.cluster.remedies = (in_repair(ago(7_200.0)),)
    monkeypatch.setattr(asking, "WAIT_S", 1.0)
    assert main(("remedy", "repaired", ONE, *WHY, *far.options)) == Exit.STATE
    assert "NOT KNOWN to be obeyed" in capsys.readouterr().err
    assert len(far.cluster.names(ORDER)) == 1


def test_a_ticket_of_after_the_word_is_refused_by_the_leader(far: Far, capsys: Out) -> None:
    far.cluster.remedies = (in_repair(time.time() + 600.0),)
    assert main(("remedy", "repaired", ONE, *WHY, *far.options)) == Exit.REFUSED
    assert "was opened after this word" in capsys.readouterr().err


def test_an_emergency_is_said_listed_explained_and_ended(far: Far, capsys: Out) -> None:
    words = ("remedy", "emergency", RACK, "--kind", "leak", "--reason", "wet floor", "-o", "json")
    assert main((*words, *far.options)) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert "2 GPU nodes to be drained, unless held; until" in told["done"]
    (word,) = far.cluster.together.emergencies
    assert (word.id, word.kind, word.by) == (told["target"], "leak", "ann")
    assert word.until_s - word.since_s == 1_800.0
    assert completed(far, "end") == [word.id]

    reading = [word for word in far.options if word not in ("--by", "ann")]
    assert main(("remedy", *reading)) == Exit.OK
    told_all = capsys.readouterr().out
    assert f"Leak emergency {word.id} in {RACK}, 30 min more: ann (wet floor)" in told_all
    assert f"gridplane remedy end {word.id} --reason" in told_all
    assert main(("explain", ONE, *reading)) == Exit.OK
    assert f"  Leak emergency {word.id} in {RACK}" in capsys.readouterr().out

    assert main(("remedy", "end", word.id, "--reason", "dry", *far.options)) == Exit.OK
    assert f"{word.id} is over" in capsys.readouterr().out
    assert main(("remedy", *reading)) == Exit.OK
    assert "are well" in capsys.readouterr().out
    assert completed(far, "end") == []


def test_break_glass_above_a_megawatt_waits_for_another_person(
    far: Far, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BREAK_GLASS_ONE_PERSON_W", 15_000.0)
    words = ("remedy", "break-glass", ONE, TWO, "--for", "1h", *WHY, *far.options)
    assert main(words) == Exit.OK
    assert "sets nothing aside yet" in capsys.readouterr().out
    (glass,) = far.cluster.together.glass
    reading = [word for word in far.options if word not in ("--by", "ann")]
    assert main(("remedy", *reading)) == Exit.OK
    assert f"Break-glass {glass.id} of 2 GPU nodes" in (told := capsys.readouterr().out)
    assert "waits for a second person" in told
    assert completed(far, "approve") == [glass.id]
    sign = ("remedy", "approve", glass.id, "--reason", "agreed")
    assert main((*sign, *far.options)) == Exit.REFUSED
    assert "another person approves of it" in capsys.readouterr().err
    others = [word if word != "ann" else "bob" for word in far.options]
    assert main((*sign, *others)) == Exit.OK
    assert "stand back for 2 GPU nodes until" in capsys.readouterr().out
    assert far.cluster.together.glass[0].by == ("ann", "bob")


def test_a_login_that_a_bmc_refused_is_listed_and_tried_again_by_a_word(
    far: Far, capsys: Out
) -> None:
    refused = RefusedLogin(address="10.90.3.21", user="gridplane", mark="0a", at_s=ago(7_200.0))
    far.cluster.remedies = (NodeKept(asset=ONE, login=BmcLogin(refused=refused)),)
    reading = [word for word in far.options if word not in ("--by", "ann")]
    assert main(("remedy", *reading)) == Exit.OK
    told = capsys.readouterr().out
    assert f"BMC of {ONE}: 10.90.3.21 refused user gridplane 2 h ago" in told
    assert f"gridplane remedy reset bmc/{ONE} --reason" in told
    assert main(("explain", ONE, *reading)) == Exit.OK
    assert "bmc       10.90.3.21 refused user gridplane 2 h ago" in capsys.readouterr().out
    assert completed(far, "reset") == [f"bmc/{ONE}"]
    assert main(("remedy", "reset", f"bmc/{ONE}", *WHY, *far.options)) == Exit.OK
    assert "user gridplane is sent to 10.90.3.21 once more" in capsys.readouterr().out
    (kept,) = far.cluster.remedies
    assert kept.login == BmcLogin(tries=1)
    assert main(("remedy", "reset", f"bmc/{ONE}", *WHY, *far.options)) == Exit.OK
    assert "refuses no login that is known of" in capsys.readouterr().out


def test_a_machine_that_leaves_for_its_maker_is_named_and_its_ticket_stays(
    far: Far, capsys: Out
) -> None:
    far.cluster.remedies = (in_repair(ago(7_200.0)),)
    words = ("remedy", "rma", ONE, "--serial", "S4X3921", "--reason", "case 4711", *far.options)
    assert main(words) == Exit.OK
    assert f"{ONE}-7 stays open until another machine stands there" in capsys.readouterr().out
    (kept,) = far.cluster.remedies
    assert kept.left is not None
    assert (kept.left.serial, kept.left.by, kept.left.ticket) == ("S4X3921", "ann", kept.ticket)
    reading = [word for word in far.options if word not in ("--by", "ann")]
    assert main(("remedy", *reading)) == Exit.OK
    assert "S4X3921 left for its maker" in capsys.readouterr().out
    assert main(("explain", ONE, *reading)) == Exit.OK
    told = capsys.readouterr().out
    assert f"rma       S4X3921 left for its maker ({ONE}-7, 0 attempts): ann" in told
    assert "next      another machine in its slot" in told
    assert main(("remedy", "accept", ONE, "--bom", *WHY, *far.options)) == Exit.REFUSED
    assert "made of what is declared" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [("repaired", ONE), ("reset", RACK), ("end", "leak-1")])
def test_a_site_without_a_cluster_has_nobody_who_hears_it(
    verb: tuple[str, str], capsys: Out
) -> None:
    assert main(("remedy", *verb, *WHY, *WORDS)) == Exit.USAGE
    assert "has nobody who remedies GPU nodes" in capsys.readouterr().err


# --- listing -----------------------------------------------------------------------------------------


def said(asset: str, text: str, *, ago_s: float) -> Event:
    return Event(at_s=ago(ago_s), kind=DECIDED, text=text, asset=asset)


def test_nodes_that_are_not_well_are_listed_and_what_is_open_above_them(
    far: Far, capsys: Out
) -> None:
    far.cluster.remedies = (in_repair(ago(7_200.0)), NodeKept(asset=TWO))
    far.cluster.together = tripped()
    far.events = (
        said(ONE, "drain: xid 79", ago_s=9_000.0),
        said(ONE, "in_repair: ticket lab-g1-n1-7", ago_s=7_200.0),
        Event(at_s=ago(10.0), kind="order", text="override by ann", asset=ONE),
        said(TWO, "grace: after reboot", ago_s=8_000.0),
        said(TWO, "well", ago_s=7_000.0),
    )
    reading = [word for word in far.options if word not in ("--by", "ann")]
    assert main(("remedy", *reading)) == Exit.OK
    told = capsys.readouterr().out
    first, *_ = [line for line in told.splitlines() if line.startswith(ONE)]
    assert first.split()[:4] == [ONE, "lab-g1", "in_repair", "2"]
    assert f"{ONE}-7" in first
    assert TWO not in told.replace(f"begun on {ONE}, {TWO}", "")
    assert "Incident lab-g1-1, for 15 min: 2 of 2 are lost" in told
    assert f"gridplane remedy reset {RACK} --reason" in told
    assert "1 node of these wait" in told

    assert main(("remedy", "list", "-o", "json", *reading)) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    (node,) = found["nodes"]
    assert (node["doing"], node["needs_person"], node["ticket"]) == ("in_repair", True, f"{ONE}-7")
    assert [one["domain"] for one in found["breakers"]] == [RACK]


def test_a_site_on_which_all_is_well_says_so(far: Far, capsys: Out) -> None:
    reading = [word for word in far.options if word not in ("--by", "ann")]
    assert main(("remedy", *reading)) == Exit.OK
    assert "All GPU nodes of lab are well" in capsys.readouterr().out


# --- completion --------------------------------------------------------------------------------------


def completed(far: Far, *words: str, incomplete: str = "") -> list[str]:
    options = [word for word in far.options if word not in ("--by", "ann")]
    complete = ShellComplete(root, {}, "gridplane", "_GRIDPLANE_COMPLETE")
    verb, *rest = words
    found = complete.get_completions(["remedy", verb, *options, *rest], incomplete)
    return [item.value for item in found]


def test_completion_offers_what_is_open(far: Far) -> None:
    far.cluster.remedies = (in_repair(ago(7_200.0)), NodeKept(asset=TWO))
    far.cluster.together = tripped()
    assert completed(far, "repaired") == [ONE]
    assert completed(far, "approve") == [ONE, TWO]
    assert completed(far, "reset", incomplete="rack/") == [RACK]
    far.cluster.together = SiteKept()
    assert completed(far, "reset") == []
    far.leads = False
    assert completed(far, "repaired") == [], "nobody can be asked"


def test_completion_of_a_site_without_a_place_is_silent(tmp_path: Path) -> None:
    complete = ShellComplete(root, {}, "gridplane", "_GRIDPLANE_COMPLETE")
    options = ["--state", str(tmp_path / "none"), *WORDS[:4]]
    assert complete.get_completions(["remedy", "reset", *options], "") == []
    names = [item.value for item in complete.get_completions(["remedy"], "")]
    assert names == [
        "accept", "approve", "break-glass", "emergency", "end", "list", "repaired", "reset", "rma",
    ]  # fmt: skip
