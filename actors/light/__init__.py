"""Models that need no GPU and no hub: their weights come with a package of the index, which is a dependency of the project."""
