"""E-mails to shoppers: owed in the transaction of the event they report, sent afterwards."""
