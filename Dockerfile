# docker build -t callbackd \
#   --build-arg VERSION="$(git describe --tags --always)" --build-arg COMMIT="$(git rev-parse HEAD)" .
#
# The same source, arguments and Go version make the same binary, byte for byte.

FROM golang:1.26-bookworm AS build
WORKDIR /src
# Where modules come from; empty for Go's own choice.
ARG GOPROXY
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ARG COMMIT=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
    -o /out/callbackd ./cmd/callbackd && mkdir -p -m 0700 /out/owned/spool

# No shell, no package manager; certificates for requests to Jumio.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/callbackd /callbackd
# A place for CALLBACKD_SPOOL_DIR: a new volume that is mounted at /spool takes
# over its owner and mode, so that callbackd can write to it and nobody else read.
COPY --from=build --chown=65532:65532 /out/owned/ /
USER 65532:65532
# 8080 takes callbacks. Metrics and probes are on CALLBACKD_ADMIN_LISTEN, by
# default 127.0.0.1:9090 within the container.
EXPOSE 8080
# Asks /readyz at CALLBACKD_ADMIN_LISTEN on loopback.
HEALTHCHECK --interval=5s --timeout=5s --start-period=15s --retries=3 CMD ["/callbackd", "healthcheck"]
ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title=callbackd \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${COMMIT}
ENTRYPOINT ["/callbackd"]
CMD ["serve"]
