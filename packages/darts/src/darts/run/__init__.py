"""A run: from a pipeline to tasks, from a task to a record, in one process or many."""
