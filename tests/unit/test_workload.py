"""The contract of a workload, and how installed workloads are found and imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from temporal_fleet.errors import (
    ExitCode,
    WorkloadError,
    WorkloadImportError,
    WorkloadNotFoundError,
)
from temporal_fleet.payloads import data_converter
from temporal_fleet.workload import (
    Workload,
    declared_search_attributes,
    discover,
    load_workload,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Site

WORKLOAD = """
    from temporal_fleet import Workload

    workload: Workload = Workload(name="parcels")
"""


def problem_text(error: pytest.ExceptionInfo[WorkloadError]) -> str:
    """The text of the only problem."""
    (problem,) = error.value.problems
    return str(problem)


def test_discover_two_distributions_lists_both_sorted_without_importing(site: Site) -> None:
    """Discovery reads metadata only: a workload that cannot be imported is listed all the same."""
    site.write("acme_trucks/__init__.py", "raise RuntimeError('imported')")
    site.offer("acme-trucks", trucks="acme_trucks:workload")
    site.offer("acme-parcels", parcels="acme_parcels:workload")

    found = discover()

    names = list(found)
    assert names == sorted(names)
    assert found["parcels"].value == "acme_parcels:workload"
    assert found["trucks"].dist is not None
    assert found["trucks"].dist.version == "1.2.3"


def test_discover_one_name_twice_names_both_distributions(site: Site) -> None:
    """Two distributions that offer one name are refused, as it would be chance which one runs."""
    site.offer("acme-parcels", parcels="acme_parcels:workload")
    site.offer("other-parcels", parcels="other_parcels:workload")

    with pytest.raises(WorkloadError) as error:
        discover()

    text = problem_text(error)
    assert "workload 'parcels': is offered twice" in text
    assert "acme_parcels:workload of distribution acme-parcels" in text
    assert "other_parcels:workload of distribution other-parcels" in text


def test_load_installed_workload_returns_it(site: Site) -> None:
    """An installed workload is imported and returned."""
    site.write("acme_parcels/__init__.py", WORKLOAD)
    site.offer("acme-parcels", parcels="acme_parcels:workload")

    workload = load_workload("parcels")

    assert workload.name == "parcels"
    assert workload.default_task_queue == "parcels"


def test_load_lazy_attribute_returns_it(site: Site) -> None:
    """A package may offer its workload lazily by a module-level __getattr__."""
    site.write("acme_parcels/workload.py", WORKLOAD)
    site.write(
        "acme_parcels/__init__.py",
        """
        from importlib import import_module

        def __getattr__(name):
            if name == "workload":
                return import_module("acme_parcels.workload").workload
            raise AttributeError(name)
        """,
    )
    site.offer("acme-parcels", parcels="acme_parcels:workload", trucks="acme_parcels:truck")

    assert load_workload("parcels").name == "parcels"
    with pytest.raises(WorkloadError) as error:
        load_workload("trucks")
    assert "leads to 'truck', which 'acme_parcels' does not define" in problem_text(error)


def test_load_unknown_name_lists_installed_and_suggests(site: Site) -> None:
    """An unknown name is answered with what is installed and the nearest name."""
    site.offer("acme-parcels", parcels="acme_parcels:workload")

    with pytest.raises(WorkloadNotFoundError) as error:
        load_workload("parcel")

    text = str(error.value)
    assert text.startswith(
        "no installed distribution offers a workload named 'parcel'; installed: "
    )
    assert "parcels" in text
    assert text.endswith("Did you mean 'parcels'?")
    assert error.value.exit_code is ExitCode.STARTUP


def test_load_unknown_name_nothing_near_tells_how_to_install(site: Site) -> None:
    """Without a near name the error says how a workload gets installed."""
    site.offer("acme-parcels", parcels="acme_parcels:workload")

    with pytest.raises(WorkloadNotFoundError) as error:
        load_workload("zeppelin")

    assert "Install the distribution of the workload" in str(error.value)
    assert "'temporal_fleet.workloads'" in str(error.value)


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("import acme_missing", "ModuleNotFoundError: No module named 'acme_missing'"),
        ("from json import nothing", "ImportError: cannot import name 'nothing' from 'json'"),
        ("import json; json.loads('{')", "JSONDecodeError: Expecting property name"),
        ("raise SystemExit('no licence')", "SystemExit: no licence"),
    ],
)
def test_load_code_that_raises_shows_what_and_where(site: Site, statement: str, shown: str) -> None:
    """An exception inside a workload is shown as it is, with the innermost line of its own code."""
    site.write("acme_parcels/__init__.py", "")
    site.write("acme_parcels/workload.py", "from acme_parcels import prices\n")
    faulty = site.write("acme_parcels/prices.py", f"FREE = 0\n{statement}\n")
    site.offer("acme-parcels", parcels="acme_parcels.workload:workload")

    with pytest.raises(WorkloadImportError) as error:
        load_workload("parcels")

    text = str(error.value)
    assert "workload 'parcels' is installed" in text
    assert "of distribution acme-parcels" in text
    assert f"importing it failed: {shown}" in text
    assert f"(at {faulty}:2)" in text
    assert "not found" not in text
    assert error.value.__cause__ is not None


def test_load_syntax_error_shows_file_and_line(site: Site) -> None:
    """A syntax error is shown with the file and the line that Python reports."""
    site.write("acme_parcels/__init__.py", "")
    site.write("acme_parcels/workload.py", "x = 1\ndef broken(:\n")
    site.offer("acme-parcels", parcels="acme_parcels.workload:workload")

    with pytest.raises(WorkloadImportError, match=r"SyntaxError: .*parcels/workload\.py:2\)"):
        load_workload("parcels")


def test_load_lazy_attribute_that_raises_shows_what_and_where(site: Site) -> None:
    """A failure behind a lazy attribute is an import failure, even when it is an AttributeError."""
    site.write("acme_parcels/prices.py", "import json\njson.nothing\n")
    site.write(
        "acme_parcels/__init__.py",
        "def __getattr__(name):\n    import acme_parcels.prices\n",
    )
    site.offer("acme-parcels", parcels="acme_parcels:workload")

    with pytest.raises(WorkloadImportError, match=r"AttributeError: .*prices\.py:2\)"):
        load_workload("parcels")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("acme_parcel:workload", "leads to the module 'acme_parcel', which does not exist"),
        (
            "acme_parcels.workload:workload",
            "leads to the module 'acme_parcels.workload', which does not exist",
        ),
        ("acme_parcels:workloads", "leads to 'workloads', which 'acme_parcels' does not define"),
        ("acme_parcels:NAME", "leads to str 'parcels' instead of a temporal_fleet.Workload"),
        ("acme_parcels", "leads to a module instead of a temporal_fleet.Workload"),
        ("acme parcels!", "its entry point 'acme parcels!' cannot be read"),
    ],
)
def test_load_entry_point_to_something_else_says_what_is_there(
    site: Site, value: str, told: str
) -> None:
    """An entry point that leads to no workload is reported with its value and its distribution."""
    site.write("acme_parcels/__init__.py", WORKLOAD + '    NAME = "parcels"\n')
    site.offer("acme-parcels", parcels=value)

    with pytest.raises(WorkloadError) as error:
        load_workload("parcels")

    text = problem_text(error)
    assert told in text
    assert (
        "set in entry point group 'temporal_fleet.workloads' of distribution acme-parcels" in text
    )


def test_load_other_name_than_entry_point_is_refused(site: Site) -> None:
    """A workload that calls itself otherwise than its entry point is refused with both names."""
    site.write("acme_parcels/__init__.py", WORKLOAD)
    site.offer("acme-parcels", packages="acme_parcels:workload")

    with pytest.raises(WorkloadError) as error:
        load_workload("packages")

    text = problem_text(error)
    assert "is named 'parcels', not like its entry point" in text
    assert "Write Workload(name='packages', ...)" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"workflows": int}, "workflows must be a list or tuple, not <class 'int'>"),
        ({"activities": print}, "activities must be a list or tuple"),
        ({"served_elsewhere": "charge"}, "served_elsewhere must be a list or tuple, not 'charge'"),
        ({"passthrough_modules": "acme.models"}, "passthrough_modules must be a list or tuple"),
    ],
)
def test_workload_single_object_for_sequence_is_refused(
    arguments: dict[str, Any], told: str
) -> None:
    """A single object in place of a list is refused where it is written."""
    with pytest.raises(TypeError, match=told):
        Workload(name="parcels", **arguments)


def test_workload_task_queue_overrides_name() -> None:
    """A workload may serve a task queue of another name."""
    workload: Workload = Workload(name="parcels", task_queue="Parcels/EU")

    assert workload.default_task_queue == "Parcels/EU"


def test_data_converter_pydantic_model_round_trips() -> None:
    """Workloads exchange pydantic models as JSON."""
    from pydantic import BaseModel

    class Parcel(BaseModel):
        grams: int

    converter = data_converter().payload_converter
    (payload,) = converter.to_payloads([Parcel(grams=5)])

    assert payload.data == b'{"grams":5}'
    assert converter.from_payloads([payload], [Parcel]) == [Parcel(grams=5)]


def test_declared_search_attributes_leave_out_what_cannot_be_imported(site: Site) -> None:
    """Attributes of all workloads are found once each; a broken workload is its own worker's matter."""
    site.write(
        "acme_parcels/__init__.py",
        """
        from temporalio.common import SearchAttributeKey

        from temporal_fleet import Workload

        KEYS = [SearchAttributeKey.for_keyword("Customer"), SearchAttributeKey.for_int("Weight")]
        workload: Workload = Workload(name="parcels", search_attributes=KEYS)
        """,
    )
    site.write("acme_trucks/__init__.py", "raise RuntimeError('broken')")
    site.offer("acme-parcels", parcels="acme_parcels:workload")
    site.offer("acme-trucks", trucks="acme_trucks:workload")

    found = declared_search_attributes(["parcels", "trucks", "parcels"])

    assert [key.name for key in found] == ["Customer", "Weight"]
