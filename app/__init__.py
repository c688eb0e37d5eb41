"""The application around the learners and the data: command line, runs, loggers, reports."""
