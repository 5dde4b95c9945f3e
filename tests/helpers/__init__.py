"""What tests share: servers, tiny models, votes, and running recipes."""
