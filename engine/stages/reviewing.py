"""review and keep_review: what rules, time-outs and acceptances given in advance decide for a person."""

from __future__ import annotations

from engine import review
from engine.stages import Setting, Situation
from engine.store import deciding
from engine.store.rows import ExperimentRow
from engine.types import ExperimentState as S


class Reviewing:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._seen: dict[tuple[int, int], float] = {}  # (experiment, revision) -> monotonic: clocks jump

    def asked(self, diff: str) -> tuple[S, str]:
        """Where a new proposal goes, and the rule that asks for a person (the mode alone is no rule)."""
        config = self.setting.config.review
        if config.mode in ("proposals", "all"):
            return S.REVIEW, ""
        rule = review.asked(config.ask_if, diff)
        return (S.REVIEW, rule) if rule else (S.READY, "")

    def keep_target(self) -> S:
        return S.KEEP_REVIEW if self.setting.config.review.mode in ("keeps", "all") else S.MERGING

    def due(self, now: Situation, experiment: ExperimentRow) -> bool:
        """Whether something decides about a waiting row without a person."""
        if experiment.state not in (S.REVIEW, S.KEEP_REVIEW):
            return False
        return bool(now.campaign.autopilot) or self.seconds_left(experiment) == 0.0

    def seconds_left(self, experiment: ExperimentRow) -> float | None:
        """Until ``unanswered_after`` decides; None: it waits for ever. Counted while an engine lives."""
        rule = review.parse_unanswered(self.setting.config.review.unanswered_after)
        if rule is None:
            return None
        now = self.setting.clock.monotonic()
        since = self._seen.setdefault((experiment.id, experiment.revision), now)
        return max(0.0, rule.seconds - (now - since))

    async def decide(self, now: Situation, experiment: ExperimentRow) -> None:
        if now.campaign.autopilot:
            await self.setting.store.write(deciding.accepted_automatically, experiment.id)
            return
        rule = review.parse_unanswered(self.setting.config.review.unanswered_after)
        assert rule is not None
        await self.setting.store.write(
            deciding.decided,
            experiment.id,
            rule.action,
            "time-out",
            f"nobody answered within {rule.seconds:g} s",
            experiment.revision,
        )
