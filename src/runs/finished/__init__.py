"""What is done with finished runs: measured again, asked, combined, chosen, refitted, exported."""
