// Command pulumi-language-python lets Pulumi's Python language host serve an engine that is newer than it.
//
// The host is the last one that a published module carries. It takes the option `virtualenv` from its
// command line, where the engine no longer puts it: the engine sends it with each call. This command reads
// the option where the engine read it, in the nearest project file, and becomes the host with it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"gopkg.in/yaml.v3"
)

var projectFiles = []string{"Pulumi.yaml", "Pulumi.yml", "Pulumi.json"}

func main() {
	if err := becomeHost(); err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-language-python:", err)
		os.Exit(1)
	}
}

// becomeHost returns only when it fails.
func becomeHost() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	host := filepath.Join(filepath.Dir(self), "host", "pulumi-language-python")
	arguments := []string{host}
	if project := nearestProject(here); project != "" {
		environment, err := virtualEnvironment(project)
		if err != nil {
			return err
		}
		if environment != "" {
			arguments = append(arguments, "-virtualenv", environment)
		}
	}
	return syscall.Exec(host, append(arguments, os.Args[1:]...), os.Environ())
}

// nearestProject is the project file of the folder or of the nearest one above it; "" where there is none.
func nearestProject(folder string) string {
	for {
		for _, name := range projectFiles {
			path := filepath.Join(folder, name)
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				return path
			}
		}
		above := filepath.Dir(folder)
		if above == folder {
			return ""
		}
		folder = above
	}
}

// virtualEnvironment is the absolute path of what `runtime.options.virtualenv` names; "" where it is not set.
//
// An environment that is not there is an error: the host would make an empty one, from a registry.
func virtualEnvironment(project string) (string, error) {
	text, err := os.ReadFile(project)
	if err != nil {
		return "", err
	}
	var declared struct {
		Runtime yaml.Node `yaml:"runtime"`
	}
	if err := yaml.Unmarshal(text, &declared); err != nil {
		return "", fmt.Errorf("%s: %w", project, err)
	}
	var runtime struct {
		Options struct {
			Virtualenv string `yaml:"virtualenv"`
		} `yaml:"options"`
	}
	// `runtime: python` is a word and has no options.
	if declared.Runtime.Kind != yaml.MappingNode {
		return "", nil
	}
	if err := declared.Runtime.Decode(&runtime); err != nil {
		return "", fmt.Errorf("%s: %w", project, err)
	}
	path := runtime.Options.Virtualenv
	if path == "" {
		return "", nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(project), path)
	}
	if _, err := os.Stat(filepath.Join(path, "bin", "python")); err != nil {
		return "", fmt.Errorf(
			"%s names the virtual environment %s, which has no bin/python: make it first "+
				"(in a checkout of gridplane: `make venv`)", project, path)
	}
	return path, nil
}
