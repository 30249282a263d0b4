# syntax=docker/dockerfile:1
# A static binary on an empty base. Builds for amd64 and arm64 with
# docker buildx build --platform linux/amd64,linux/arm64 .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH VERSION
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN mkdir -p /out && CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -pgo=cmd/waypoint/waypoint.pgo \
    -ldflags "-s -w -X waypoint.dev/waypoint/internal/version.Version=$VERSION" -o /out/ ./cmd/...

FROM scratch
# System roots, for collectors and key servers outside the mesh.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/local/bin/
# Istio's proxy user: the injected Deployment sets the same.
USER 1337:1337
EXPOSE 15008 15020 15021 15090
ENTRYPOINT ["/usr/local/bin/waypoint"]
