"""What people look at: gradients, reports, pictures."""
