# All images at once, or one by its workload's name:
#
#   BUILD_ID=$(python scripts/build_id.py) docker buildx bake orders
#
# `make images` does the same with whatever engine there is.

variable "WORKLOADS" {
  description = "Names of the folders in workloads/, separated by commas; python scripts/workloads.py lists them"
  default     = "orders,payments"
}

variable "BUILD_ID" {
  description = "<release>-<12 hex digits>: Temporal's build ID, the tag and a label of every image"
  default     = ""
  validation {
    condition     = BUILD_ID != ""
    error_message = "BUILD_ID is empty. Set it to what `python scripts/build_id.py` prints."
  }
}

variable "REGISTRY" {
  description = "Host and path that images are published under; empty for images of this machine"
  default     = ""
}

variable "REVISION" {
  description = "Commit that is built, for a label"
  default     = ""
}

variable "SOURCE" {
  description = "Address of the repository, for a label"
  default     = ""
}

variable "SOURCE_DATE_EPOCH" {
  description = "Seconds since 1970 that stand for the time of the build; with rewrite-timestamp=true in the output also for that of every file"
  default     = "0"
}

variable "PLATFORMS" {
  description = "Such as linux/amd64,linux/arm64; empty for that of the builder"
  default     = ""
}

variable "EXTRAS" {
  description = "Extras of temporal-fleet that worker images carry, separated by spaces, such as otel"
  default     = ""
}

variable "CACHE" {
  description = "Kind of cache to read and write, such as gha; empty for none beside the builder's own"
  default     = ""
}

function "image" {
  params = [name]
  result = "${REGISTRY == "" ? "" : "${REGISTRY}/"}fleet-${name}:${BUILD_ID}"
}

group "default" {
  targets = ["worker", "dev-server"]
}

target "_image" {
  context   = "."
  platforms = compact(split(",", PLATFORMS))
  args = {
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH
  }
}

target "worker" {
  inherits = ["_image"]
  matrix = {
    workload = split(",", WORKLOADS)
  }
  name   = workload
  target = "worker"
  tags   = [image(workload)]
  args = {
    WORKLOAD = workload
    BUILD_ID = BUILD_ID
    EXTRAS   = EXTRAS
    REVISION = REVISION
    SOURCE   = SOURCE
  }
  cache-from = CACHE == "" ? [] : ["type=${CACHE},scope=fleet-${workload}"]
  cache-to   = CACHE == "" ? [] : ["type=${CACHE},scope=fleet-${workload},mode=max"]
}

target "dev-server" {
  inherits = ["_image"]
  target   = "dev-server"
  tags     = [image("dev-server")]
}
