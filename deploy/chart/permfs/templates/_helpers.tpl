{{/* Labels of every object. */}}
{{- define "permfs.labels" -}}
app.kubernetes.io/name: permfs
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.customLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What selects a component's pods: fixed for good, a selector cannot be changed. Takes (list $ "component"). */}}
{{- define "permfs.selector" -}}
app.kubernetes.io/name: permfs
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "permfs.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "permfs.rulesName" -}}
{{ .Values.existingRules | default "permfs-rules" }}
{{- end }}

{{/* The directory of the plugin's socket on the node. */}}
{{- define "permfs.pluginDir" -}}
{{ trimSuffix "/" .Values.kubeletDir }}/plugins/permfs.csi.io
{{- end }}

{{/* The directory of the mount host's socket, on the node and in the containers. */}}
{{- define "permfs.hostDir" -}}
/run/permfs-host
{{- end }}

{{/* For containers that only talk over sockets. Root, because the sockets' directories on the node are root's. */}}
{{- define "permfs.unprivileged" -}}
runAsUser: 0
runAsGroup: 0
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "permfs.logArgs" -}}
- --log-level={{ .Values.log.level }}
- --log-format={{ .Values.log.format }}
{{- end }}

{{- define "permfs.nodePlacement" -}}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .Values.node.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.node.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.node.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.node.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* The liveness probe's sidecar and, under its port, what the kubelet asks. */}}
{{- define "permfs.livenessSidecar" -}}
{{- with .Values.sidecars.livenessProbe -}}
- name: liveness-probe
  image: {{ .image.repository }}:{{ .image.tag }}
  imagePullPolicy: {{ .image.pullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --probe-timeout=3s
    - --http-endpoint=:9808
  securityContext:
    {{- include "permfs.unprivileged" $ | nindent 4 }}
  volumeMounts:
    - name: plugin-dir
      mountPath: /csi
  resources:
    {{- toYaml .resources | nindent 4 }}
{{- end }}
{{- end }}

{{- define "permfs.healthPort" -}}
- name: healthz
  containerPort: 9808
  protocol: TCP
{{- end }}

{{- define "permfs.probes" -}}
# Not ready: the rules are wrong, or the mount host is away. The log says which.
readinessProbe:
  httpGet:
    path: /healthz
    port: healthz
  periodSeconds: 10
  timeoutSeconds: 5
# The same answer, so mistaken rules restart it too, which mends nothing and harms nothing. Eleven minutes: the kubelet
# forgets the restarts of a container that ran for ten, and so never waits long with the next one.
livenessProbe:
  httpGet:
    path: /healthz
    port: healthz
  periodSeconds: 60
  timeoutSeconds: 10
  failureThreshold: 11
{{- end }}
