"""The command line: arguments, parser, Trainer options, secrets, the default configuration."""
