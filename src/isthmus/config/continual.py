"""How a model that serves goes on learning, and when its successor takes over."""

from __future__ import annotations

from pydantic import Field

from isthmus.config.section import Section

_OF_PASSES = (
    "replay",
    "replay_most",
    "distil",
    "distil_top",
    "distil_temperature",
    "elastic",
)


class LearningConfig(Section):
    """Updates of a model that serves."""

    passes: int = Field(
        0,
        ge=0,
        description="Times that the networks go over what an update learns from; 0: they rest "
        "until a full fine-tune, and all else is renewed.",
    )
    rate: float = Field(
        0.5, gt=0, description="Peak rate of an update as a multiple of training.learning_rate."
    )
    replay: float = Field(
        2.0,
        ge=0,
        description="Old events learnt again beside every new one; 0: none. Only where "
        "passes > 0; a full fine-tune learns all events.",
    )
    replay_most: int = Field(
        20_000, ge=0, description="Most old events that an update replays. Only where passes > 0."
    )
    distil: float = Field(
        0.3,
        ge=0,
        description="Weight of the serving model's lists on what is replayed; 0: off. Only where "
        "passes > 0, and not in a full fine-tune.",
    )
    distil_top: int = Field(20, ge=1, description="Items of such a list.")
    distil_temperature: float = Field(
        1.0, gt=0, description="Above 1 the shares within a list are more even."
    )
    elastic: float = Field(
        0.0,
        ge=0,
        description="Strength of elastic weight consolidation; 0: off. Only where passes > 0, and "
        "not in a full fine-tune.",
    )
    least_events: int = Field(
        200,
        ge=2,
        description="Fewer new events wait, unless an update is asked for by hand or every so many "
        "events; `held_back` of 200, half of the people's, are the 20 of `least_judged`.",
    )
    held_back: float = Field(
        0.2, gt=0, lt=1, description="Share of the new events, the latest, that judge an update."
    )
    held_back_most: int = Field(4000, ge=2, description="Most events that judge an update.")
    least_judged: int = Field(
        20,
        ge=1,
        description="Questions that must judge an update, of at least half as many people; of "
        "fewer it is kept back, and its events are learnt with the next ones.",
    )
    margin: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Relative loss of NDCG@100 that counts as no worse where chance may explain "
        "it; a loss whose 95 % interval lies below 0 never does.",
    )
    confidence: float = Field(
        0.5, gt=0, lt=1, description="How sure it must be that the successor is no worse."
    )
    weight_memory: int = Field(
        2000,
        ge=0,
        description="Most questions that the part weights of the version before count as; never "
        "more than they rest on.",
    )
    gate_memory: int = Field(
        4000, ge=1, description="Latest validation questions, over updates, that the gate rests on."
    )
    full_every: int = Field(
        0, ge=0, description="Updates from one full fine-tune to the next; 0: only after drift."
    )
    full_passes: int = Field(1, ge=1, description="Passes of a full fine-tune over all events.")
    drift: bool = Field(True, description="Let drift call for a full fine-tune.")
    drift_delta: float = Field(
        0.002, gt=0, lt=1, description="ADWIN's bound on the chance of a false alarm."
    )
    drift_least: float = Field(
        0.15, ge=0, lt=1, description="Relative fall of a watched mean below which it is no drift."
    )
    keep_versions: int = Field(
        10,
        ge=2,
        description="Versions kept in a model's folder, beside the live one and the one before it; "
        "what became of older ones stays in its ledger.",
    )

    def without_effect(self) -> tuple[str, ...]:
        """Keys that are set away from their defaults and do nothing, since `passes` is 0."""
        if self.passes:
            return ()
        fields = type(self).model_fields
        return tuple(name for name in _OF_PASSES if getattr(self, name) != fields[name].default)
