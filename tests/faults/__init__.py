"""Kills, crashes, full disks, bad data, hostile folders: what must hold whatever happens."""
