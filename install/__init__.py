"""What make needs before anything is installed: which Python fits, and which versions it is given."""
