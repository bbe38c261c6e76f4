"""From a task and a policy to updates: nothing here touches a disk."""
