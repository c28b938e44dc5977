# docker build -t callbackd \
#   --build-arg VERSION="$(git describe --tags --always)" --build-arg COMMIT="$(git rev-parse HEAD)" .

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ARG COMMIT=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" \
    -o /callbackd ./cmd/callbackd

# No shell, no package manager; certificates for requests to Jumio.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /callbackd /callbackd
USER nonroot
# 8080 takes callbacks. Metrics and probes are on CALLBACKD_ADMIN_LISTEN, by
# default 127.0.0.1:9090 within the container.
EXPOSE 8080
# Asks /readyz at CALLBACKD_ADMIN_LISTEN on loopback.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["/callbackd", "healthcheck"]
ENTRYPOINT ["/callbackd"]
CMD ["serve"]
