"""Training on Lightning Fabric: a net, a task, a recipe and a seed in; metrics and a learning curve out."""
