package app

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/config"
	"callbackd/internal/imagestore"
)

// OpenImageStore opens the image store of the settings; nil if images are in the database.
// Its metrics are registered in either case.
func OpenImageStore(c *config.Config, reg prometheus.Registerer) (imagestore.Store, error) {
	metrics := imagestore.NewMetrics(reg)
	if c.ImageStore == nil {
		return nil, nil //nolint:nilnil // the database
	}
	return imagestore.Open(imagestore.Options{
		Location: imagestore.Location(*c.ImageStore), AccessKey: c.ImageStoreAccessKey, SecretKey: c.ImageStoreSecretKey, Metrics: metrics,
	})
}

// checkImageStore fails if the store cannot be used as it is set up. One that does not
// answer now may do so later: images wait for it.
func checkImageStore(ctx context.Context, s imagestore.Store, log *zap.Logger) error {
	if s == nil {
		return nil
	}
	warning, err := s.Check(ctx)
	switch {
	case errors.Is(err, imagestore.ErrRefused):
		return err
	case err != nil:
		log.Error("the image store does not answer; images wait for it", zap.Error(err))
	case warning != "":
		log.Warn("image store", zap.String("warning", warning))
	}
	return nil
}
