from lab.simulated_ollama.command import main

raise SystemExit(main())
