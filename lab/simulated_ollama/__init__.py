"""A simulated Ollama: its HTTP interface, its store and its scheduler, without a language model.

It answers as Ollama 0.33/0.34 does, takes the time that the declared hardware would take, and says
"simulated" in its version, its log and every answer. It needs Starlette and uvicorn only, both pure
Python, so that it travels as one file.
"""
