# All images: scripts/images.sh. One of them: scripts/images.sh ingest.

variable "SIGHTLINE_IMAGE_TAG" { default = "dev" }
variable "VERSION" { default = "dev" }
variable "REVISION" { default = "unknown" }
variable "CREATED" { default = "1970-01-01T00:00:00Z" } # of the commit, not of the build: the same source makes the same image
variable "GO_ENV" { default = "" }                      # a file for GOENV
variable "INFER" { default = "cpu" }                    # or cuda
variable "ORT_CUDA_SHA256" { default = "" }             # of ONNX Runtime's release for CUDA

group "default" {
  targets = ["ingest", "preprocess", "infer", "recovery", "drift-monitor", "sightline", "camera"]
}

target "images" {
  name = item.image
  matrix = {
    item = [
      { image = "ingest", does = "captures cameras" },
      { image = "preprocess", does = "turns frames into model input" },
      { image = "infer", does = "answers model input with predictions" },
      { image = "recovery", does = "notices what fails and mends it" },
      { image = "drift-monitor", does = "watches pictures, answers and cameras for drift and faults" },
      { image = "sightline", does = "the operator's command line" },
      { image = "camera", does = "plays footage as a live RTSP camera" },
    ]
  }
  context    = "."
  dockerfile = "deploy/docker/Dockerfile"
  target     = item.image
  tags       = ["sightline/${item.image}:${SIGHTLINE_IMAGE_TAG}${item.image == "infer" && INFER != "cpu" ? "-${INFER}" : ""}"]
  args       = item.image == "infer" && INFER == "cuda" ? { INFER = INFER, ORT_CUDA_SHA256 = ORT_CUDA_SHA256 } : {}
  secret     = GO_ENV == "" ? [] : ["id=go-env,src=${GO_ENV}"]
  output     = ["type=docker"]
  labels = {
    "org.opencontainers.image.title"       = "sightline-${item.image}"
    "org.opencontainers.image.description" = "Sightline: ${item.does}"
    "org.opencontainers.image.source"      = "https://github.com/sightline-dev/sightline"
    "org.opencontainers.image.licenses"    = "Apache-2.0"
    "org.opencontainers.image.version"     = VERSION
    "org.opencontainers.image.revision"    = REVISION
    "org.opencontainers.image.created"     = CREATED
  }
}
