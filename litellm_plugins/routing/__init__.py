"""Which node gets a request: plain logic, without LiteLLM and without input or output."""
