"""Publications: leaderboard, label, statement and report, each made from a release alone."""
