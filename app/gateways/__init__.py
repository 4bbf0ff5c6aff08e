"""The payment gateways: their interface (`base`), the list of them (`registry`) and one package per gateway."""
