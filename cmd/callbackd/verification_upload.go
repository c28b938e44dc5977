package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"callbackd/internal/jumio"
)

func newUploadCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "upload ANSWER PART=FILE...",
		Short: "Uploads images to a verification",
		Long: `Uploads images to a verification. ANSWER is the file with the answer that create
printed, or - for stdin; tokens and addresses are taken from there, and stored nowhere.
PART is a classifier, FRONT, BACK, FACE or FACEMAP, with the credential's category before
it where several credentials have that classifier: ID:FRONT.

A file is JPEG or PNG by its content, of at most 10 MB and 8000 x 8000 pixels. All files
and addresses are checked before the first file is sent. They are sent one after the
other; the first failure ends it.

Needs JUMIO_USER_AGENT, and JUMIO_API_URL if it is set for create.`,
		Example: "  callbackd verification upload answer.json FRONT=front.jpg BACK=back.jpg SELFIE:FACE=face.png",
		Args: func(_ *cobra.Command, args []string) error {
			seen := map[string]bool{}
			for _, arg := range args[1:] {
				u, err := parseUpload(arg)
				if err != nil {
					return err
				}
				if name := u.name(); seen[name] {
					return fmt.Errorf("%s is there twice", name)
				}
				seen[u.name()] = true
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return withoutCredentials(p, func(client *jumio.Client) error {
				return uploadAll(c, p, client, args[0], args[1:])
			})
		},
	}
}

// upload is one argument, and what is found for it.
type upload struct {
	category, classifier, path string

	link *jumio.Link
	file *jumio.File
}

// name is the part as on the command line.
func (u *upload) name() string {
	if u.category == "" {
		return u.classifier
	}
	return u.category + ":" + u.classifier
}

// parseUpload reads [CATEGORY:]CLASSIFIER=FILE, in upper or lower case.
func parseUpload(arg string) (*upload, error) {
	part, path, found := strings.Cut(arg, "=")
	category, classifier, hasCategory := strings.Cut(strings.ToUpper(part), ":")
	if !hasCategory {
		category, classifier = "", category
	}
	if !found || path == "" || classifier == "" || hasCategory && category == "" || strings.ContainsAny(classifier, ": ") {
		return nil, fmt.Errorf("%q is not a part and a file such as FRONT=front.jpg or ID:FRONT=front.jpg", arg)
	}
	return &upload{category: category, classifier: classifier, path: path}, nil
}

func uploadAll(c *cobra.Command, p *process, client *jumio.Client, answer string, args []string) error {
	created, err := readAnswer(p, answer)
	if err != nil {
		return err
	}
	var uploads []*upload
	var problems []error
	for _, arg := range args {
		u, err := parseUpload(arg)
		if err != nil {
			return wrongUsage(c, err)
		}
		credential, err := u.find(created)
		if _, ambiguous := errors.AsType[*ambiguousError](err); ambiguous {
			return wrongUsage(c, err)
		}
		if err == nil {
			u.link, err = client.UploadLink(created, credential, u.classifier)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", u.name(), err))
		}
		file, err := u.open()
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", u.name(), err))
			continue
		}
		defer func() { _ = file.Close() }()
		uploads = append(uploads, u)
	}
	if len(problems) > 0 {
		return &linesError{problems}
	}
	return send(c.Context(), p, client, uploads)
}

// send makes the requests, which need the files to be open.
func send(ctx context.Context, p *process, client *jumio.Client, uploads []*upload) error {
	for _, u := range uploads {
		if _, err := client.Upload(ctx, u.link, u.file); err != nil {
			return fmt.Errorf("%s: %w", u.name(), err)
		}
		fmt.Fprintf(p.stdout, "uploaded %s\n", u.name())
	}
	return nil
}

// ambiguousError says that a classifier belongs to several credentials.
type ambiguousError struct{ name, examples string }

func (e *ambiguousError) Error() string {
	return fmt.Sprintf("several credentials have %s, want its category, one of %s", e.name, e.examples)
}

// find finds the credential that waits for the part.
func (u *upload) find(created *jumio.Creation) (*jumio.CreatedCredential, error) {
	var found []*jumio.CreatedCredential
	for i := range created.Credentials {
		credential := &created.Credentials[i]
		if (u.category == "" || strings.EqualFold(credential.Category, u.category)) && credential.API.Part(u.classifier) != "" {
			found = append(found, credential)
		}
	}
	switch {
	case len(found) == 0:
		return nil, errors.New("the answer has no such part to upload")
	case len(found) == 1:
		return found[0], nil
	}
	var examples []string
	for _, credential := range found {
		if name := credential.Category + ":" + u.classifier; !slices.Contains(examples, name) {
			examples = append(examples, name)
		}
	}
	if len(examples) == 1 {
		return nil, fmt.Errorf("several credentials of category %s have this part, which this command cannot tell apart", found[0].Category)
	}
	return nil, &ambiguousError{u.name(), strings.Join(examples, ", ")}
}

// open checks the file, which stays open.
func (u *upload) open() (*os.File, error) {
	file, err := os.Open(u.path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s: it is not a regular file", u.path)
	default:
		if u.file, err = jumio.NewFile(file, info.Size()); err != nil {
			err = fmt.Errorf("%s: %w", u.path, err)
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
