"""What a drain runs on: threads, tasks, child processes, signals and the clock."""
