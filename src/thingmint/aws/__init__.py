"""The AWS API: botocore's service model defines its operations, ``thingmint.services`` carries them out."""
