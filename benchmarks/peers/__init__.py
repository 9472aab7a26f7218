"""One small program for each package that is compared with; see README.md."""
