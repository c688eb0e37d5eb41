"""The tests. A package, because learn2learn installs one of the same name, which would be found instead."""
