"""What other people look at: leaderboard, label and report, each made from a release and nothing else."""
