"""What an operator does beside a running server: redelivery, retention, audit, backup."""
