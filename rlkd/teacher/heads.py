"""How architectures change their logits after the head, and whether we know it."""

from typing import Any

import torch

from rlkd.teacher.base import TeacherError


class CheckedHead:
    """Mixin of LocalTeacher: its head is compared with the model's own logits before it scores."""

    _verified = False

    @property
    def _headed(self) -> Any:
        return self

    def _verify_head(self, ids: list[int]) -> None:
        """Our chunked head against the model's own logits, on a few tokens, once."""
        me = self._headed
        ids_1L = torch.tensor([ids[:9]], device=me._head.weight.device)
        if ids_1L.shape[1] < 2:
            return
        token_N = ids_1L[0, 1:]
        with me._uncounted():
            own = me.model(input_ids=ids_1L, use_cache=False).logits[0, :-1].float()
            hidden_1LH = me._backbone(input_ids=ids_1L, use_cache=False).last_hidden_state
        want_N = own.log_softmax(-1).gather(-1, token_N.unsqueeze(-1)).squeeze(-1)
        found_N = me._logprobs(hidden_1LH[0, :-1], token_N, 1.0)
        error = (found_N - want_N).abs().max().item()
        bound = self._bound()
        if not error <= bound:
            raise TeacherError(
                f"{me.name} ({type(me.model).__name__}) changes its logits after the head in a way "
                "that rlkd does not know: our log-probabilities differ from its own by "
                f"{error:.3g} nats (allowed {bound:g})."
            )
        self._verified = True

    def _bound(self) -> float:
        return 1e-3 if self._headed._head.weight.dtype == torch.float32 else 0.25


def head_settings(config: Any) -> dict[str, Any]:
    """How an architecture changes its logits after the head: a factor, a soft cap."""
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            scale = float(getattr(config, name))
            break
    else:
        divisor = getattr(config, "logits_scaling", None)
        if divisor is not None:
            # HyperCLOVA X multiplies where Granite divides, under one name.
            scale = divisor if config.model_type == "hyperclovax" else 1.0 / divisor
    return {"logit_scale": scale, "softcap": getattr(config, "final_logit_softcapping", None)}
