"""Every claim about speed as a script that anyone can run."""
