"""What clients of other products send and read, on the functions behind ``/v1``: one module for each product."""
