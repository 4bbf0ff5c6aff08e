"""Receipt e-mails: stored in the transaction of the payment that they report, and sent afterwards."""
