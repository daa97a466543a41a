"""Options: from defaults, preset, recipes, file and command line to one resolved `RunConfig`. Imports no torch."""
