# Every resource type of Terraform's AWS provider that is served, with all of its arguments and with none of them.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "aws" {}

variable "role" {}
variable "authorities" { type = list(string) }
variable "certificate" {}
variable "csr" {}

variable "word" {
  description = "What the second application of this configuration changes."
}

locals {
  body = jsonencode({
    Parameters = { SerialNumber = { Type = "String" } }
    Resources = {
      certificate = {
        Type       = "AWS::IoT::Certificate"
        Properties = { CertificateId = { Ref = "AWS::IoT::Certificate::Id" }, Status = "Active" }
      }
    }
  })
}

resource "aws_iot_thing_type" "bare" {
  name = "bare"
}

resource "aws_iot_thing_type" "described" {
  name = "described"
  properties {
    description = "a type"
  }
}

resource "aws_iot_thing_type" "full" {
  name       = "full"
  deprecated = true
  properties {
    description           = "a type"
    searchable_attributes = ["a", "b"]
  }
  tags = { word = var.word }
}

resource "aws_iot_thing_group" "bare" {
  name = "bare"
}

resource "aws_iot_thing_group" "described" {
  name = "described"
  properties {
    description = var.word
  }
}

resource "aws_iot_thing_group" "full" {
  name              = "full"
  parent_group_name = aws_iot_thing_group.bare.name
  properties {
    description = "a group"
    attribute_payload {
      attributes = { word = var.word }
    }
  }
  tags = { word = var.word }
}

resource "aws_iot_thing" "bare" {
  name = "bare"
}

resource "aws_iot_thing" "full" {
  name            = "full"
  thing_type_name = aws_iot_thing_type.bare.name
  attributes      = { word = var.word }
}

resource "aws_iot_thing_group_membership" "bare" {
  thing_name       = aws_iot_thing.bare.name
  thing_group_name = aws_iot_thing_group.full.name
}

resource "aws_iot_certificate" "keys" {
  active = true
}

resource "aws_iot_certificate" "csr" {
  csr    = var.csr
  active = false
}

resource "aws_iot_certificate" "own" {
  certificate_pem = var.certificate
  active          = true
}

resource "aws_iot_policy" "full" {
  name = "full"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "iot:Publish", Resource = "arn:aws:iot:*:*:topic/${var.word}" }]
  })
  tags = { word = var.word }
}

resource "aws_iot_policy_attachment" "certificate" {
  policy = aws_iot_policy.full.name
  target = aws_iot_certificate.keys.arn
}

resource "aws_iot_policy_attachment" "group" {
  policy = aws_iot_policy.full.name
  target = aws_iot_thing_group.bare.arn
}

resource "aws_iot_thing_principal_attachment" "full" {
  principal = aws_iot_certificate.keys.arn
  thing     = aws_iot_thing.full.name
}

resource "aws_iot_provisioning_template" "bare" {
  name                  = "bare"
  type                  = "JITP"
  provisioning_role_arn = var.role
  template_body         = local.body
}

resource "aws_iot_provisioning_template" "full" {
  name                  = "full"
  description           = var.word
  enabled               = true
  provisioning_role_arn = var.role
  template_body         = local.body
  pre_provisioning_hook {
    target_arn = "arn:aws:lambda:us-east-1:123456789012:function:${var.word}"
  }
  tags = { word = var.word }
}

resource "aws_iot_ca_certificate" "bare" {
  active                  = false
  allow_auto_registration = false
  ca_certificate_pem      = var.authorities[0]
  certificate_mode        = "SNI_ONLY"
}

resource "aws_iot_ca_certificate" "full" {
  active                  = true
  allow_auto_registration = true
  ca_certificate_pem      = var.authorities[1]
  certificate_mode        = "SNI_ONLY"
  registration_config {
    template_name = aws_iot_provisioning_template.bare.name
  }
  tags = { word = var.word }
}

data "aws_iot_endpoint" "data" {
  endpoint_type = "iot:Data-ATS"
}

data "aws_iot_registration_code" "code" {}

resource "aws_iot_role_alias" "bare" {
  alias    = "bare"
  role_arn = var.role
}

resource "aws_iot_role_alias" "full" {
  alias               = "full"
  role_arn            = var.role
  credential_duration = var.word == "first" ? 900 : 43200
}

resource "aws_iot_indexing_configuration" "fleet" {
  thing_indexing_configuration {
    thing_indexing_mode              = "REGISTRY"
    thing_connectivity_indexing_mode = var.word == "first" ? "STATUS" : "OFF"
    custom_field {
      name = "attributes.${var.word}"
      type = "Number"
    }
  }
  thing_group_indexing_configuration {
    thing_group_indexing_mode = var.word == "first" ? "ON" : "OFF"
  }
}

resource "aws_iot_event_configurations" "all" {
  event_configurations = {
    "THING"                  = true
    "THING_GROUP"            = var.word == "first"
    "THING_TYPE"             = false
    "THING_GROUP_MEMBERSHIP" = var.word != "first"
    "THING_GROUP_HIERARCHY"  = true
    "THING_TYPE_ASSOCIATION" = false
    "JOB"                    = true
    "JOB_EXECUTION"          = false
    "POLICY"                 = false
    "CERTIFICATE"            = var.word == "first"
    "CA_CERTIFICATE"         = true
  }
}
