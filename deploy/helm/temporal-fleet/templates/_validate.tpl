{{/*
Notes a problem. Argument: a list of the fleet and the text.
*/}}
{{- define "temporal-fleet.problem" -}}
{{- $fleet := first . -}}
{{- $_ := set $fleet "problems" (append $fleet.problems (last .)) -}}
{{- end -}}

{{/*
Refuses values that contradict each other. Argument: a dict of root and fleet.
*/}}
{{- define "temporal-fleet.validate" -}}
{{- $fleet := .fleet -}}
{{- include "temporal-fleet.check-release" . -}}
{{- range $queue := $fleet.queues -}}
{{- include "temporal-fleet.check-queue" (dict "fleet" $fleet "queue" $queue) -}}
{{- include "temporal-fleet.check-routing" (dict "fleet" $fleet "queue" $queue) -}}
{{- end -}}
{{- range $build := $fleet.builds -}}
{{- include "temporal-fleet.check-build" (dict "fleet" $fleet "build" $build) -}}
{{- include "temporal-fleet.check-scaling" (dict "fleet" $fleet "build" $build) -}}
{{- end -}}
{{- with $fleet.problems -}}
{{- fail (printf "\n\ntemporal-fleet: the values have %s:\n  - %s\n" (eq (len .) 1 | ternary "a problem" (printf "%d problems" (len .))) (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{/*
What concerns the release as a whole. Argument: a dict of root and fleet.
*/}}
{{- define "temporal-fleet.check-release" -}}
{{- $fleet := .fleet -}}
{{- $values := .root.Values -}}
{{- with $values.temporal.address -}}
{{- if not (regexMatch "^[^/\\s]+:[0-9]{1,5}$" .) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "temporal.address is '%s'; write host:port, such as temporal-frontend.temporal.svc:7233, without https://" .)) -}}
{{- end -}}
{{- end -}}
{{- if and $fleet.queues (not (include "temporal-fleet.address" .root)) -}}
{{- include "temporal-fleet.problem" (list $fleet "temporal.address is empty: set it to host:port of the Temporal frontend, or set temporal.devServer.enabled to true for a server to try the chart with") -}}
{{- end -}}
{{- $deployments := dict -}}
{{- range $queue := $fleet.queues -}}
{{- if $queue.with -}}
{{- include "temporal-fleet.check-shared" (dict "fleet" $fleet "queue" $queue) -}}
{{- else -}}
{{- with get $deployments $queue.deployment -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': deploymentName '%s' is also that of queue '%s'; two task queues with routing of their own need two Worker Deployments. Two kinds of workers of one task queue share one: give both the same taskQueue" $queue.key $queue.deployment .)) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $deployments $queue.deployment $queue.key -}}
{{- end -}}
{{- include "temporal-fleet.check-task-queues" $fleet -}}
{{- $names := dict -}}
{{- range $path, $_ := .root.Files.Glob "files/dashboards/*.json" -}}
{{- $_ := set $names (include "temporal-fleet.dashboard-name" (list $.root $path)) "a dashboard" -}}
{{- end -}}
{{- range $build := $fleet.builds -}}
{{- with get $names $build.name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': its objects would have the name '%s', as %s has; use another key for one of them" $build.queue $build.key $build.name .)) -}}
{{- end -}}
{{- $_ := set $names $build.name (printf "queue '%s', build '%s'" $build.queue $build.key) -}}
{{- end -}}
{{- if and $values.monitoring.podMonitor.enabled $values.monitoring.serviceMonitor.enabled -}}
{{- include "temporal-fleet.problem" (list $fleet "monitoring: podMonitor and serviceMonitor are both enabled and would scrape every worker twice; enable one of them") -}}
{{- end -}}
{{- with $values.temporal.codec -}}
{{- if and .encryptionKeyId (not .secretName) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "temporal.codec.encryptionKeyId is '%s', but temporal.codec.secretName is empty; name the Secret that holds this key, or payloads would not be encrypted" .encryptionKeyId)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $values.temporal.env -}}
{{- with include "temporal-fleet.place-of-credential" $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "temporal.env.%s: %s" $name .)) -}}
{{- end -}}
{{- if regexMatch "^(FLEET_.*|TEMPORAL_(ADDRESS|NAMESPACE))$" $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "temporal.env.%s: this has a value of its own; use the keys of temporal for the connection, and settings for FLEET_ variables" $name)) -}}
{{- end -}}
{{- end -}}
{{- include "temporal-fleet.check-plain-text" (dict "fleet" $fleet "at" "temporal.env" "env" $values.temporal.env "cure" "put it into a Secret, and name that in queueDefaults.envFrom and hooks.envFrom, as [{secretRef: {name: <Secret>}}]") -}}
{{- include "temporal-fleet.check-plain-text" (dict "fleet" $fleet "at" "hooks.env" "env" $values.hooks.env "cure" "put it into a Secret, and write {valueFrom: {secretKeyRef: {name: <Secret>, key: <key>}}}") -}}
{{- range $at, $variables := dict "temporal.env" $values.temporal.env "hooks.env" $values.hooks.env -}}
{{- include "temporal-fleet.check-numbers" (dict "fleet" $fleet "at" $at "env" $variables) -}}
{{- end -}}
{{- range $at, $labels := dict "commonLabels" $values.commonLabels "hooks.nodeSelector" $values.hooks.nodeSelector -}}
{{- include "temporal-fleet.check-labels" (dict "fleet" $fleet "at" $at "labels" $labels) -}}
{{- end -}}
{{- include "temporal-fleet.check-references" (dict "fleet" $fleet "at" "hooks" "place" "hooks.env" "env" (include "temporal-fleet.hook-variables" .root | fromJson) "others" list "envFrom" $values.hooks.envFrom) -}}
{{- range $path, $image := dict "hooks.image" $values.hooks.image "temporal.devServer.image" $values.temporal.devServer.image -}}
{{- include "temporal-fleet.check-image" (dict "fleet" $fleet "at" $path "image" $image "repository" (tpl $image.repository (dict "Template" $.root.Template))) -}}
{{- end -}}
{{- $routing := $values.hooks.routing -}}
{{- if ge (int $routing.pollerTimeoutSeconds) (int $routing.activeDeadlineSeconds) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "hooks.routing: pollerTimeoutSeconds is %d, not less than activeDeadlineSeconds, which is %d, so the Job would be killed before it can say which build is not polled; raise activeDeadlineSeconds to %d, or lower pollerTimeoutSeconds" (int $routing.pollerTimeoutSeconds) (int $routing.activeDeadlineSeconds) (add $routing.pollerTimeoutSeconds 50))) -}}
{{- end -}}
{{- range $forced := $values.hooks.guard.forceRemoveBuilds -}}
{{- if not (regexMatch "^[^/]+/[^/]+$" $forced) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "hooks.guard.forceRemoveBuilds: '%s' is not <queue key>/<build ID>, such as orders/1.4.0" $forced)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Refuses an image whose parts hold what belongs elsewhere. Argument: a dict of fleet, at (the place of the image in
messages), image and repository, the evaluated one.
*/}}
{{- define "temporal-fleet.check-image" -}}
{{- $fleet := .fleet -}}
{{- range $part, $text := dict "registry" (.image.registry | default "") "repository" .repository -}}
{{- if contains "://" $text -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s.%s is '%s'; leave out %s" $.at $part $text (regexFind "^.*?://" $text))) -}}
{{- end -}}
{{- end -}}
{{- if contains "@" .repository -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s.repository is '%s', which has a digest; put %s into image.digest" .at .repository (regexFind "@.*" .repository | trimPrefix "@"))) -}}
{{- else if contains ":" (base .repository) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s.repository is '%s', which has a tag; put %s into image.tag, or leave it out" .at .repository (regexFind ":[^:]*$" .repository | trimPrefix ":"))) -}}
{{- end -}}
{{- end -}}
