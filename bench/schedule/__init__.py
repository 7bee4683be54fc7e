"""What is done when: tasks that are left, their order, what a failure means, what people see meanwhile."""
