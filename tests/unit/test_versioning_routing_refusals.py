"""Plans of routing that are refused until values or flags are mended, or until the version cap has room."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from routing_situations import (
    BLUE,
    CURRENT,
    DRAINED,
    GREEN,
    RED,
    blue_green,
    notes_of,
    short,
    steps_of,
    values,
)
from simulated_server import build, deployment

from temporal_fleet.versioning import (
    UNVERSIONED,
    BuildStatus,
    DesiredDeployment,
    ObservedBuild,
    ObservedDeployment,
    Plan,
    Refusal,
    plan_routing,
)


def reasons_of(plan: Plan | Refusal) -> str:
    """Return all reasons of a refusal."""
    assert isinstance(plan, Refusal), plan
    return "\n".join(plan.reasons)


REFUSED = [
    pytest.param(
        values(RED), {}, "'1.6.0' is to be current, but is none of", id="current-unlisted"
    ),
    pytest.param(
        values(BLUE, RED, 5), {}, "'1.6.0' is to be ramping, but is none of", id="ramping-unlisted"
    ),
    pytest.param(values(None), {}, "Set routing.current", id="no-current"),
    pytest.param(values(BLUE, BLUE, 5), {}, "both current and ramping", id="ramping-is-current"),
    pytest.param(values(BLUE, GREEN, -1), {}, "percentage -1 is not", id="percentage-negative"),
    pytest.param(values(BLUE, GREEN, 101), {}, "from 0 to 100", id="percentage-too-large"),
    pytest.param(values(BLUE, GREEN, float("nan")), {}, "nan is not", id="percentage-nan"),
    pytest.param(values(BLUE, None, 5), {}, "but nothing is to ramp", id="percentage-of-nobody"),
    pytest.param(values(GREEN), {"ramp_steps": [0, 100]}, "above 0", id="step-zero"),
    pytest.param(values(GREEN), {"ramp_steps": [10, 101]}, "up to 100", id="step-too-large"),
    pytest.param(values(GREEN), {"ramp_steps": [50, 10, 100]}, "do not rise", id="steps-falling"),
    pytest.param(values(GREEN), {"ramp_steps": [10, 10, 100]}, "do not rise", id="steps-equal"),
    pytest.param(
        values(GREEN), {"ramp_steps": [10, 50]}, "End them with 100", id="steps-too-short"
    ),
    pytest.param(
        values(BLUE, GREEN, 10),
        {"ramp_steps": [10, 100]},
        "is to ramp at 10 %. End them with 10, or set routing.current",
        id="steps-beyond-the-values",
    ),
    pytest.param(
        values(GREEN, RED, 10, [GREEN, RED]),
        {"ramp_steps": [5, 10]},
        "Do one after the other",
        id="steps-for-two",
    ),
    pytest.param(values(GREEN), {"pause": timedelta(seconds=-1)}, "negative", id="pause-negative"),
]


@pytest.mark.parametrize(("desired", "options", "expected"), REFUSED)
def test_plan_of_what_makes_no_sense_is_refused_with_what_to_do(
    desired: DesiredDeployment, options: dict[str, object], expected: str
) -> None:
    """Each mistake is refused in words that say how to mend it."""
    refusal = plan_routing(desired, blue_green(), **options)  # type: ignore[arg-type]

    assert expected in reasons_of(refusal)


def test_plan_of_several_mistakes_names_all_of_them() -> None:
    """Nobody has to mend one to learn of the next."""
    refusal = plan_routing(values(RED, RED, 101), blue_green(), ramp_steps=[50, 10])

    assert isinstance(refusal, Refusal)
    assert len(refusal.reasons) == 5


def test_plan_with_smaller_percentage_is_refused_until_allowed() -> None:
    """A ramp goes back only when a flag, or the values, say so."""
    desired, observed = values(BLUE, GREEN, 10), blue_green(50)

    assert "--allow-ramp-down" in reasons_of(plan_routing(desired, observed))
    assert steps_of(plan_routing(desired, observed, allow_ramp_down=True))
    assert steps_of(plan_routing(replace(desired, allow_ramp_down=True), observed))


def test_plan_that_ramps_the_current_build_is_refused_until_allowed() -> None:
    """Values from before a promotion do not undo it."""
    observed = deployment(
        build(BLUE, DRAINED, last_current=1), build(GREEN, CURRENT), current=GREEN
    )
    desired = values(BLUE, GREEN, 50)

    assert "is current, with all new work" in reasons_of(plan_routing(desired, observed))
    allowed = plan_routing(desired, observed, allow_ramp_down=True)
    assert [short(each) for each in steps_of(allowed)] == ["current blue", "green 50 %"]


def test_plan_under_a_manager_is_refused_unless_it_is_us_or_nothing_is_to_be_done() -> None:
    """Somebody else's routing is left alone, and the refusal says whose it is."""
    observed = replace(blue_green(), manager_identity="controller@cluster")

    assert "'controller@cluster' manages" in reasons_of(plan_routing(values(GREEN), observed))
    assert steps_of(plan_routing(values(GREEN), observed, identity="controller@cluster"))
    assert steps_of(plan_routing(values(BLUE), observed)) == []


def full(*done: ObservedBuild, polled: bool = False) -> ObservedDeployment:
    """Return a server at its cap of 10, with these builds and others that are still needed."""
    pollers, pinned = (1, 0) if polled else (0, 1)
    busy = [
        build(f"busy-{number}", DRAINED, pollers=pollers, pinned=pinned)
        for number in range(9 - len(done))
    ]
    return deployment(build(BLUE, CURRENT), *done, *busy, current=BLUE, version_cap=10)


OLD = build("old", DRAINED, pollers=0, drained=7)
OLDER = build("older", DRAINED, pollers=0, drained=3)
NEVER_USED = build("unused", pollers=0, created=5)


@pytest.mark.parametrize(
    ("done", "named"),
    [
        pytest.param([OLD, OLDER], "(older, old)", id="drained"),
        pytest.param([NEVER_USED], "(unused)", id="inactive"),
        pytest.param([OLD, NEVER_USED, OLDER], "(older, unused, old)", id="both"),
    ],
)
def test_plan_beyond_the_version_cap_notes_which_builds_the_server_may_delete_by_itself(
    done: list[ObservedBuild], named: str
) -> None:
    """What the server does by itself is no reason to refuse, but people hear of it."""
    notes = notes_of(plan_routing(values(GREEN), full(*done)))

    assert (
        "would have 11 versions, and the server takes 10 at most. It makes room by itself" in notes
    )
    assert named in notes


NEEDED = [
    pytest.param(full(), [GREEN], "No build can be deleted now", id="open-pinned-runs"),
    pytest.param(full(polled=True), [GREEN], "No build can be deleted now", id="polled"),
    pytest.param(
        full(build("draining", BuildStatus.DRAINING, pollers=0)),
        [GREEN],
        "No build can be deleted now",
        id="draining",
    ),
    pytest.param(
        full(build("inactive", pollers=0, pinned=1)), [GREEN], "No build can", id="inactive-pinned"
    ),
    pytest.param(
        replace(full(), builds={**full().builds, UNVERSIONED: build(UNVERSIONED, pollers=0)}),
        [GREEN],
        "No build can be deleted now",
        id="unversioned-has-no-record",
    ),
    pytest.param(full(NEVER_USED), [GREEN, "unused"], "No build can be deleted", id="wanted"),
    pytest.param(full(OLD), [GREEN, RED], "No build but old can be deleted now", id="too-few"),
]


@pytest.mark.parametrize(("observed", "builds", "expected"), NEEDED)
def test_plan_beyond_the_version_cap_without_enough_to_delete_is_refused(
    observed: ObservedDeployment, builds: list[str], expected: str
) -> None:
    """A build that could not register is refused before it is deployed; what is needed makes no room."""
    reasons = reasons_of(plan_routing(values(BLUE, builds=[BLUE, *builds]), observed))

    assert "keeps 10 versions" in reasons
    assert "takes 10 at most, so that the workers of '1.5.0'" in reasons
    assert expected in reasons
    assert "busy-" not in reasons


def test_plan_near_the_version_cap_has_a_note() -> None:
    """People hear of the cap before it stops them."""
    observed = replace(full(OLD), version_cap=11)
    desired = values(BLUE, builds=[BLUE])

    notes = notes_of(plan_routing(desired, observed))
    assert "10 of 11 versions. Could be deleted (old): fleet rollout retire" in notes
    busy = notes_of(plan_routing(desired, replace(full(), version_cap=11)))
    assert "10 of 11 versions, and no build can be deleted now" in busy
    roomy = replace(observed, version_cap=100)
    assert "versions" not in notes_of(plan_routing(values(BLUE, builds=[BLUE]), roomy))
