"""Transfer: what the gate decided and why, of what each blend is made, and a run's figures."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from isthmus.blend import GateDecision
from isthmus.blend.gate import Change, SliceGate
from isthmus.experiment.schema import Estimate, GateReport, GateSlice, RunRecord
from isthmus.report import charts, reading
from isthmus.report.page import embedded
from isthmus.serving.live import Live
from isthmus.serving.pages.rendering import page
from isthmus.serving.service import Service


def gate_report(live: Live, target: str, decision: GateDecision) -> GateReport:
    """What the live model knows of one gate, in the report's form."""
    system, d = live.recommender.system, live.domain(target)
    alone = system.alone.get(d)
    both = alone is not system.transferred
    return GateReport(
        target=target,
        weight=decision.weight,
        reason=decision.reason,
        transferred=dict(system.transferred.blend.weights.get(d, {})) if both else {},
        target_only=dict(alone.blend.weights.get(d, {})) if alone is not None else {},
        uplift=_estimate(decision.relative),
        slices=[_slice(part, target) for part in decision.slices if part.n],
    )


def _slice(part: SliceGate, target: str) -> GateSlice:
    return GateSlice(
        people=part.people(target),
        weight=part.weight,
        n=part.n,
        asked_again=part.asked_again,
        measured=_estimate(part.measured),
        shrunk=_estimate(part.shrunk),
    )


def _estimate(change: Change | None) -> Estimate | None:
    if change is None:
        return None
    value, low, high = change
    return Estimate(value=value, low=low, high=high)


class TransferPage:
    """See the module.

    Args:
        service: what is shown.
        run: a comparison whose figures are shown as well; None: none.
    """

    def __init__(self, service: Service, run: RunRecord | None) -> None:
        self._service, self._run = service, run

    def show(self, request: Request) -> Response:
        """The page."""
        live = self._service.keeper.refresh()
        gates = [gate_report(live, n, gate) for n, gate in live.recommender.gates.items()]
        parts: dict[str, None] = {}
        for gate in gates:
            parts |= dict.fromkeys((*gate.transferred, *gate.target_only))
        weighed = any(gate.transferred or gate.target_only for gate in gates)
        return page(
            request,
            "transfer.html",
            version=live.version,
            gates=gates,
            blend=embedded(charts.blend_chart(gates, charts.part_colours(list(parts))))
            if weighed
            else None,
            run=self._run,
            targets=[] if self._run is None else _targets(self._run),
            harms=[] if self._run is None else reading.harm_table(self._run),
        )


def _targets(run: RunRecord) -> list[dict[str, Any]]:
    found = []
    for target in run.targets:
        rows, gated = (reading.uplift(run, target, role) for role in ("transferred", "gated"))
        if rows:
            forest = embedded(charts.uplift_chart(rows, gated, run.metric))
            found.append({"name": target, "uplift": rows, "forest": forest})
    return found
