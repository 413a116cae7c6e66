// Command gpu-driver-upgrades is what NVIDIA's GPU operator does about driver upgrades, and nothing else of
// it: its library's upgrade manager, called four times a second over the driver's DaemonSet of one namespace.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/NVIDIA/k8s-operator-libs/api/upgrade/v1alpha1"
	"github.com/NVIDIA/k8s-operator-libs/pkg/upgrade"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// gpuPods are those that the operator deletes before it replaces a driver: they ask for GPUs.
func gpuPods(pod corev1.Pod) bool {
	for _, container := range pod.Spec.Containers {
		if _, asks := container.Resources.Limits["nvidia.com/gpu"]; asks {
			return true
		}
	}
	return false
}

func main() {
	namespace := flag.String("namespace", "gpu-operator", "of the driver's DaemonSet")
	app := flag.String("app", "nvidia-driver-daemonset", "its pods carry `app=NAME`")
	parallel := flag.Int("max-parallel", 1, "nodes at a time; 0 for all")
	unavailable := flag.String("max-unavailable", "25%", "of the nodes with a driver")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config, err := ctrl.GetConfig() // it has brought the flag -kubeconfig
	if err != nil {
		log.Fatal(err)
	}
	ctrl.SetLogger(zap.New(zap.UseDevMode(true)))
	upgrade.SetDriverName("gpu")
	manager, err := upgrade.NewClusterUpgradeStateManager(
		ctrl.Log.WithName("upgrade"), config, record.NewFakeRecorder(1000))
	if err != nil {
		log.Fatal(err)
	}
	manager = manager.WithPodDeletionEnabled(gpuPods)
	most := intstr.Parse(*unavailable)
	policy := &v1alpha1.DriverUpgradePolicySpec{
		AutoUpgrade:         true,
		MaxParallelUpgrades: *parallel,
		MaxUnavailable:      &most,
		PodDeletion:         &v1alpha1.PodDeletionSpec{TimeoutSecond: 300},
		WaitForCompletion:   &v1alpha1.WaitForCompletionSpec{},
		DrainSpec:           &v1alpha1.DrainSpec{},
	}
	for ctx.Err() == nil {
		state, err := manager.BuildState(ctx, *namespace, map[string]string{"app": *app})
		if err == nil {
			err = manager.ApplyState(ctx, state, policy)
		}
		if err != nil {
			log.Printf("not applied: %v", err) // the operator's reconciler asks again, too
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second / 4):
		}
	}
}
