"""A server that says of itself what a vLLM server says at TRL's door: `/health`, `/server_info`."""

from tests.serving import Handler, Served


class SamplerDouble(Served):
    """`with SamplerDouble(...) as server:` serves at `server.url`.

    Args:
        logprobs_mode, max_model_len: as /server_info gives them; the form is vLLM 0.22's to 0.31's,
            as TRL 1.16 reads it.
        developing: does it have /server_info (VLLM_SERVER_DEV_MODE=1)?
        busy: first answers to /health that say 503.
    """

    def __init__(
        self,
        logprobs_mode: str = "processed_logprobs",
        max_model_len: int = 512,
        developing: bool = True,
        busy: int = 0,
    ) -> None:
        model = {"logprobs_mode": logprobs_mode, "max_model_len": max_model_len}
        self.info = {"vllm_config": {"model_config": model}} if developing else None
        self.busy = busy
        super().__init__(self._handler())

    def _handler(self) -> type[Handler]:
        double = self

        class Answers(Handler):
            def do_GET(self) -> None:
                if self.path == "/health":
                    double.busy -= 1
                    self.send({} if double.busy < 0 else 503)
                elif self.path.startswith("/server_info") and double.info is not None:
                    self.send(double.info)
                else:
                    self.send(404)

        return Answers
