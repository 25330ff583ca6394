"""What is being played: jobs, their attempts with the model, and answers being checked."""
