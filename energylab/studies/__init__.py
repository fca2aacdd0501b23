"""Studies: from a YAML file to thousands of jobs that can be interrupted, resumed, moved and trusted."""
